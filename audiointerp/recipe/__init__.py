"""Recipes: HyperPyYAML (https://github.com/speechbrain/HyperPyYAML) with every mistake named before anything runs.

The tags are SpeechBrain's: `!new:`, `!name:`, `!apply:`, `!module:`, `!ref`, `!copy`, `!tuple`, `!include:`,
`!PLACEHOLDER`. A recipe states its difference to a base with `<<: !include:base.yaml`: a key replaces the base's key
of that name; where both hold named arguments and the child writes no other tag, they merge argument by argument;
references in the base see the child's values.

    signatures    what a dotted name stands for, its parameters, whether a value fits an annotation
    merging       files, bases, includes and the command line -> one document that knows its lines
    references    what `<a[b]>` names, and its value as far as it can be known without building anything
    checking      the problems of a document
    moved         names that recipes of earlier versions use
    loading       check, load, resolve: what programs call

A recipe is code: it imports and calls what it names. Do not run a stranger's.
"""

from audiointerp.recipe.loading import check, load, resolve
from audiointerp.recipe.merging import RecipeError, parse_overrides

__all__ = ["RecipeError", "check", "load", "parse_overrides", "resolve"]
