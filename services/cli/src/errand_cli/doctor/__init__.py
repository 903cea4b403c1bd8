"""`errand doctor`: looks at everything a suite needs, and says what to do about what is wrong."""
