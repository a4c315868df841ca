"""Shipped configurations; `ladic configs` lists them."""
