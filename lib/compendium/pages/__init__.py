"""Pages made of stored numbers and executed notebooks: README files, and a site for a browser."""
