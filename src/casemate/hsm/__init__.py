"""The host security module: its firmware, and `casemate.hsm.client`, the Python API to it.

A request's way: `firmware` starts the module and owns its states; `partitions` keeps the tenants;
`control` decides what workloads ask to change and `store` puts it on disk; `admin` answers the
operator. Key bytes exist only in silicon (`casemate._silicon`): what is handled here are handles
and masked blobs. All of it but `client` runs in the module's own process and loads nothing but the
standard library and Casemate.
"""
