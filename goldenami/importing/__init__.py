"""Import of templates of other tools: ``goldenami import``.

``read_packer`` reads a Packer template, in HCL2 or JSON, into one form (``packer.Template``). ``draft_recipes`` turns
each Amazon EBS source of it into a recipe. ``draft_agent`` turns a component document of EC2 Image Builder into an
agent. What a recipe cannot say, or says in another way, is a note with the line of the template. Nothing of a template
is executed, and only files below its folder and the working directory are read.
"""

from goldenami.importing.draft import Draft, Note
from goldenami.importing.imagebuilder import draft_agent
from goldenami.importing.packer import draft_recipes, read_packer

__all__ = ["Draft", "Note", "draft_agent", "draft_recipes", "read_packer"]
