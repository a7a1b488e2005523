"""The handlers, each declared with its path, and a file for each part of the API."""
