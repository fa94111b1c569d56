"""Items x interpreters -> WAVs and scores."""
