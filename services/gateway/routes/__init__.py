"""Routes of the API, a module a noun."""
