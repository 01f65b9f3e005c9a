"""Guided demonstrations. Each file whose name does not begin with an underscore is one: _stage.py has the rest."""
