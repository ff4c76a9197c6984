"""What an agent does with AWS's own SDK. It prints an outcome a line."""

import io
import os
import re
import urllib.request

import boto3
from botocore.config import Config
from botocore.parsers import ResponseParserError

config = Config(retries={"max_attempts": 0}, region_name="eu-west-1")
key = "a b/\u00fc+c=(1).txt"
body = b"x" * 300_000


def client(name, **more):
    return boto3.client(name, config=config.merge(Config(**more)))


def outcome(name, call):
    try:
        answer = call()
    except ResponseParserError as e:  # a refusal is no XML; the SDK shows it
        answer = "refused: " + re.search('"code":"(\\w+)"', str(e)).group(1)
    print(name + ":", answer, flush=True)


s3, path = client("s3"), client("s3", s3={"addressing_style": "path", "payload_signing_enabled": True})
outcome("who", lambda: client("sts").get_caller_identity()["Account"])
outcome("put", lambda: s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"two": "a  b"})["ETag"])
outcome("put signed", lambda: path.put_object(Bucket="bucket", Key=key, Body=body)["ETag"])
outcome("put a stream", lambda: s3.upload_fileobj(io.BytesIO(body * 40), "bucket", key))
outcome("get", lambda: s3.get_object(Bucket="bucket", Key=key, Range="bytes=0-3")["Body"].read())
outcome("list", lambda: s3.list_objects_v2(Bucket="bucket", Prefix="a b/+", Delimiter="/")["KeyCount"])
outcome("item", lambda: client("dynamodb").put_item(TableName="table", Item={"id": {"S": "\u00fc"}})["ResponseMetadata"]["HTTPStatusCode"])
outcome("invoke", lambda: client("lambda").invoke(FunctionName="a-function:1", Payload=body)["StatusCode"])
outcome("role", lambda: client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="any"))
outcome("session", lambda: client("sts").get_session_token())
outcome("access key", lambda: client("iam").create_access_key(UserName="any"))
signed = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "presigned"})
outcome("presigned", lambda: urllib.request.urlopen(signed).status)
outcome("anonymous", lambda: urllib.request.urlopen("https://public.s3.amazonaws.com/file").status)
print("environment:", os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
