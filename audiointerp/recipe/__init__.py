"""Recipes: HyperPyYAML (https://github.com/speechbrain/HyperPyYAML) with every mistake reported before anything runs.

The tags are SpeechBrain's: `!new:`, `!name:`, `!apply:`, `!module:`, `!ref`, `!copy`, `!tuple`, `!include:`,
`!PLACEHOLDER`. A recipe includes a base with `<<: !include:base.yaml` and states only its differences: a key replaces
the base's key of that name; where both hold named arguments and the recipe gives no other tag, they are merged argument
by argument; references in the base take the recipe's values.

    allowed       the object of a dotted name, if a recipe may use it
    signatures    the parameters of a callable, whether a value fits an annotation
    merging       files, bases, includes and the command line -> one document whose nodes keep their lines
    references    the node that `<a[b]>` names, and its value if it is known without building any object
    checking      the problems of a document
    building      the objects of a checked document
    shipped       the recipes that come with the package
    moved         names that recipes of earlier versions use
    loading       check, preview, load, resolve: the functions for programs

A recipe is code: `load` calls the objects that it names. They are those of audiointerp and torch, and of packages that
the user allows; `check` and `preview` call none of them. Still, do not run recipes from people you do not trust.
"""

from audiointerp.recipe.loading import check, load, preview, resolve
from audiointerp.recipe.merging import RecipeError, parse_overrides

__all__ = ["RecipeError", "check", "load", "parse_overrides", "preview", "resolve"]
