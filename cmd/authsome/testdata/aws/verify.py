"""Computes the signatures that requests should have, with AWS's own library.

Reads a JSON list of requests, and prints a line for each: the signature."""

import json
import re
import sys
from base64 import b64decode

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

given = json.load(sys.stdin)
for r in given["requests"]:
    headers = {name.lower(): ",".join(values) for name, values in r["header"].items()}
    said = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=(\S+), Signature=\S+",
                        headers["authorization"])
    key, region, service, names = said.groups()
    request = AWSRequest(method=r["method"], url="https://" + r["host"] + r["target"], data=b64decode(r["body"] or ""),
                         headers={name: headers[name] for name in names.split(";") if name != "host"})
    request.context["timestamp"] = headers["x-amz-date"]
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = kind(Credentials(key, given["secret"]), service, region)
    print(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))
