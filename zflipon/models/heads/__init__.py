"""Task heads that every family can carry."""
