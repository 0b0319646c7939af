"""SoC manifests: build and sign them, set them as the runtime does, authorise images by them.

Everything here is a function of its arguments: the mailbox keeps the `Authorizations` that
`set_manifest` returns and asks `authorize` with them.
"""
