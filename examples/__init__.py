"""Things to run and to read: the demo, a CRM consumer, SDK snippets."""
