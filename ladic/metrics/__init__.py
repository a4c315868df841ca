"""Caption metrics with the semantics of the COCO evaluation tools."""
