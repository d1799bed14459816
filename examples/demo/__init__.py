"""`make demo`: the main job done on real purchases, every number beside an independent one."""
