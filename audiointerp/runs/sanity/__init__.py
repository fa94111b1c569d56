"""Sanity checks: does a mask depend on the model, the labels, the class, and not on inaudible noise?"""
