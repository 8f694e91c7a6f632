"""The sections of the page, one file each: facts in, what a template needs out."""
