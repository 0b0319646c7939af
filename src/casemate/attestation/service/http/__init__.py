"""The service over HTTP: `application` puts it together, `envelope` is around every request.

`authentication` says who asks, `problems` how refusals look, `models` how answers look, `evidence`
how evidence arrives; the rest are the routes by subject.
"""
