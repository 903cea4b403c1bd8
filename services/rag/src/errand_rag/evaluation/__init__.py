"""Quality of search, measured on a labelled set of our own writing."""
