"""Prints an access token, as a login would: login.py [SUBJECT] [PROVIDER].
`login.py --id TOKEN` prints the id of one, which is what a logout revokes."""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import uuid


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(subject, provider, secret, now):
    claims = {
        "iss": "sandbox",
        "aud": "api",
        "sub": subject,
        "jti": str(uuid.uuid4()),
        "type": "access",
        "iat": now,
        "exp": now + 900,
        "provider": provider,
    }
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64url(signature)}"


def token_id(token):
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=="))["jti"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--id"]:
        print(token_id(sys.argv[2]))
    else:
        with open(os.environ["SECRET_FILE"], "rb") as file:
            secret = file.read()
        subject = sys.argv[1] if len(sys.argv) > 1 else str(uuid.uuid4())
        provider = sys.argv[2] if len(sys.argv) > 2 else "google"
        print(token(subject, provider, secret, int(time.time())))
