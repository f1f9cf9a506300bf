"""The browser: the engine, a page for a bundle, and a module for other pages."""
