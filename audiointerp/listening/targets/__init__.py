"""A study -> a page to open in a browser, webMUSHRA configs, or a plain folder."""
