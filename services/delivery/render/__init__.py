"""Rendering: a template version and a member become one message. Pure, no I/O."""
