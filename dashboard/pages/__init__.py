"""The pages: each a module with `register(app, service)`, a layout of a link's query, and its callbacks."""
