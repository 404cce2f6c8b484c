"""What files from outside may say: each key's type and range, once. One module for each kind of file.

``fields.py`` has the types. The readers of the files check with these tables before they use a value; recipes, device
profiles and receipts are dataclasses, which ``toml_table.py`` reads and checks in the same way.
"""
