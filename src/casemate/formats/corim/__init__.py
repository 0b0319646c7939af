"""CoRIM and CoMID (draft-ietf-rats-corim): reference values and endorsements on the wire.

`measurement` is the model that evidence and reference values share; the codecs stand beside it.
"""
