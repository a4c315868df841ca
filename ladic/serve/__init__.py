"""``ladic serve``: page and HTTP API by one server. ``service`` knows no web, ``api`` no page, ``page`` no HTTP."""
