"""What schemathesis has to be told about our media types."""

import schemathesis


@schemathesis.serializer("application/wasm")
def wasm(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
