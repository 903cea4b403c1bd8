"""HTTP: routes convert a request, call one use case or backend, and convert back."""
