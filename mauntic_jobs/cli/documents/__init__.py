"""Types of the JSON that commands print: the schemas in docs/json are generated from them."""
