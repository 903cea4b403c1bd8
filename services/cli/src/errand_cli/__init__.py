"""errand: the suite on one machine, chat and training from the terminal."""
