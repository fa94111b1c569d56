"""Every method on the same sounds: tables, figures and a page on which each row plays."""
