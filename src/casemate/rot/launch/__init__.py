"""Starts the module's firmware so that what was measured is what runs.

The root of trust opens the module's files itself, copies each into sealed memory, asks its SoC
manifest about each part (AUTHORIZE_AND_STASH), and starts the interpreter from those descriptors:
no path is opened again. Parts, in this order:

1. interpreter: the dynamic loader and the Python executable;
2. shared-objects: every library that interpreter, extension modules and silicon load;
3. standard-library: the library as one archive, and its extension modules;
4. silicon: the extension module that holds the keys;
5. package: Casemate's Python package as one archive, and the code that finds all this;
6. pkcs11: the library that client programs load (it does not run here).

`image` collects, `sealed` copies and seals, `authorization` asks, `process` starts.
"""
