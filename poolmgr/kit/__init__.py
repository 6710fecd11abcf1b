"""Small shared edges: clock, logging, a marked part of a file, an HTTP server. No decisions."""
