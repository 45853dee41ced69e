"""What usual S3 clients do with their default settings: boto3, aws-cli, minio-py, obstore and rclone. See README.md.

Usage: clients.py HTTP_PORT HTTPS_PORT CA_FILE. Prints `NAME: ok` or what is wrong, and exits with 1 if something is.
"""

import datetime
import hashlib
import io
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import traceback
import urllib.request

import boto3
import minio
import obstore
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY, SECRET, _ = pathlib.Path(__file__).with_name("users.txt").read_text().split()
SMALL = b"small content"
# More than the parts of any of these clients.
LARGE = random.Random(1).randbytes(37 * 1024 * 1024 + 11)
HTTP, HTTPS, CA = sys.argv[1:]
URLS = {"http": f"http://127.0.0.1:{HTTP}", "https": f"https://127.0.0.1:{HTTPS}"}
# A name with what has to be quoted somewhere.
ODD = "a b/c+d/é&'x%20"


def check(is_so, what):
    if not is_so:
        raise AssertionError(what)


def boto_client(url, **config):
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET,
        region_name="us-east-1", verify=CA, config=Config(**config),
    )


def boto(url, bucket, **config):
    client = boto_client(url, **config)
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key=ODD, Body=SMALL, Metadata={"who": "me"}, Tagging="a=b")
    found = client.get_object(Bucket=bucket, Key=ODD)
    check(found["Body"].read() == SMALL and found["Metadata"] == {"who": "me"}, "what was put is got")
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        client.put_object(Bucket=bucket, Key=algorithm, Body=io.BytesIO(SMALL), ChecksumAlgorithm=algorithm)
        head = client.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        check("Checksum" + algorithm in head, algorithm)
    client.upload_fileobj(io.BytesIO(LARGE), bucket, "large")
    copy = io.BytesIO()
    client.download_fileobj(bucket, "large", copy)
    check(copy.getvalue() == LARGE, "a large file is the same")
    client.copy({"Bucket": bucket, "Key": "large"}, bucket, "copied")
    part = client.get_object(Bucket=bucket, Key="copied", Range="bytes=8388600-8388620")["Body"].read()
    check(part == LARGE[8388600:8388621], "a range of a copy")
    keys = [item["Key"] for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}) for item in page["Contents"]]
    check(ODD in keys and "copied" in keys and keys == sorted(keys), keys)
    link = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": ODD})
    context = None
    if link.startswith("https"):
        import ssl
        context = ssl.create_default_context(cafile=CA)
    check(urllib.request.urlopen(link, context=context).read() == SMALL, "a presigned URL")
    try:
        client.put_object(Bucket=bucket, Key="large", Body=b"", IfNoneMatch="*")
        check(False, "a condition is ignored")
    except ClientError as error:
        check(error.response["Error"]["Code"] == "PreconditionFailed", error)
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    client.delete_bucket(Bucket=bucket)


def boto_virtual_host(url, bucket):
    """Every name is this machine, as a name server would say it."""
    resolve = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more)
    try:
        boto(url.replace("127.0.0.1", "s3.example.com"), bucket, s3={"addressing_style": "virtual"})
    finally:
        socket.getaddrinfo = resolve


def command(*arguments, given=b"", **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    done = subprocess.run(arguments, env=inherited | environment, input=given, capture_output=True, check=False)
    check(done.returncode == 0, f"{arguments}: {done.stderr.decode()}")
    return done.stdout


def aws(url, bucket):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "in").mkdir()
        (folder / "in" / "large").write_bytes(LARGE)
        (folder / "in" / "odd é + name").write_bytes(SMALL)

        def run(*arguments):
            return command(
                "aws", "--endpoint-url", url, *arguments, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET,
                AWS_DEFAULT_REGION="us-east-1", AWS_CA_BUNDLE=CA, AWS_CONFIG_FILE="/dev/null",
            )

        run("s3", "mb", f"s3://{bucket}")
        run("s3", "sync", f"{folder}/in", f"s3://{bucket}/x")
        run("s3", "sync", f"s3://{bucket}/x", f"{folder}/out")
        for name in ("large", "odd é + name"):
            check((folder / "in" / name).read_bytes() == (folder / "out" / name).read_bytes(), name)
        run("s3", "mv", f"s3://{bucket}/x/large", f"s3://{bucket}/y")
        listed = run("s3", "ls", "--recursive", f"s3://{bucket}").decode()
        check("x/odd é + name" in listed and str(len(LARGE)) in listed, listed)
        check(run("s3", "cp", f"s3://{bucket}/x/odd é + name", "-") == SMALL, "to a pipe")
        run("s3", "rm", "--recursive", f"s3://{bucket}")
        run("s3", "rb", f"s3://{bucket}")


def minio_py(url, bucket):
    pool = urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=CA)
    scheme, host = url.split("://")
    client = minio.Minio(host, ACCESS_KEY, SECRET, secure=scheme == "https", http_client=pool)
    client.make_bucket(bucket)
    check(client.bucket_exists(bucket), "a bucket is there")
    client.put_object(bucket, ODD, io.BytesIO(SMALL), len(SMALL), metadata={"who": "me"})
    client.put_object(bucket, "large", io.BytesIO(LARGE), -1, part_size=5 * 1024 * 1024)
    check(client.get_object(bucket, ODD).read() == SMALL, "what was put is got")
    check(client.get_object(bucket, "large").read() == LARGE, "a large object")
    check(client.get_object(bucket, "large", offset=7, length=9).read() == LARGE[7:16], "a range")
    names = sorted(item.object_name for item in client.list_objects(bucket, recursive=True))
    check(names == sorted([ODD, "large"]), names)
    folders = [item.object_name for item in client.list_objects(bucket) if item.is_dir]
    check(folders == ["a b/"], folders)
    client.copy_object(bucket, "copied", minio.commonconfig.CopySource(bucket, ODD))
    tags = minio.commonconfig.Tags.new_object_tags()
    tags["a"] = "b"
    client.set_object_tags(bucket, "copied", tags)
    check(client.get_object_tags(bucket, "copied") == {"a": "b"}, "tags")
    link = client.presigned_get_object(bucket, "copied", datetime.timedelta(hours=1))
    check(pool.request("GET", link).data == SMALL, "a presigned URL")
    link = client.presigned_put_object(bucket, "sent", datetime.timedelta(hours=1))
    check(pool.request("PUT", link, body=SMALL).status == 200, "a presigned URL to put")
    doomed = [minio.deleteobjects.DeleteObject(name) for name in [*names, "copied", "sent"]]
    check(not list(client.remove_objects(bucket, doomed)), "all are removed")
    client.remove_bucket(bucket)


def obstore_py(url, bucket):
    boto_client(url).create_bucket(Bucket=bucket)
    store = obstore.store.S3Store(
        bucket, endpoint=url, access_key_id=ACCESS_KEY, secret_access_key=SECRET, region="us-east-1",
        # It takes no certificate of an authority that the system does not know.
        client_options={"allow_http": True, "allow_invalid_certificates": True},
    )
    store.put(ODD, SMALL)
    store.put("large", LARGE)
    check(bytes(store.get(ODD).bytes()) == SMALL, "what was put is got")
    check(bytes(store.get("large").bytes()) == LARGE, "a large object")
    check(bytes(store.get_range("large", start=5, length=6)) == LARGE[5:11], "a range")
    store.copy(ODD, "copied")
    store.rename("copied", "renamed")
    try:
        store.put("renamed", b"", mode="create")
        check(False, "a condition is ignored")
    except obstore.exceptions.AlreadyExistsError:
        pass
    head = store.head("renamed")
    store.put("renamed", LARGE[:9], mode={"e_tag": head["e_tag"]})
    listed = sorted(item["path"] for page in store.list() for item in page)
    check(listed == sorted([ODD, "large", "renamed"]), listed)
    store.delete(listed)
    boto_client(url).delete_bucket(Bucket=bucket)


def rclone(url, bucket):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "in" / "deep").mkdir(parents=True)
        (folder / "in" / "large").write_bytes(LARGE)
        (folder / "in" / "deep" / "odd é + name").write_bytes(SMALL)
        (folder / "in" / "empty").write_bytes(b"")

        def run(*arguments, given=b""):
            return command(
                "rclone", "--retries", "1", *arguments, given=given, RCLONE_CONFIG="/dev/null", SSL_CERT_FILE=CA,
                RCLONE_CONFIG_T_TYPE="s3", RCLONE_CONFIG_T_PROVIDER="Other", RCLONE_CONFIG_T_ENDPOINT=url,
                RCLONE_CONFIG_T_ACCESS_KEY_ID=ACCESS_KEY, RCLONE_CONFIG_T_SECRET_ACCESS_KEY=SECRET,
            )

        run("mkdir", f"t:{bucket}")
        run("copy", "--s3-upload-cutoff", "16M", f"{folder}/in", f"t:{bucket}/x")
        run("check", "--download", f"{folder}/in", f"t:{bucket}/x")
        run("check", f"{folder}/in", f"t:{bucket}/x")
        run("moveto", f"t:{bucket}/x/large", f"t:{bucket}/y")
        sums = run("md5sum", f"t:{bucket}/y").decode()
        check(hashlib.md5(LARGE).hexdigest() in sums, sums)
        check(run("cat", f"t:{bucket}/x/deep/odd é + name") == SMALL, "cat")
        run("rcat", f"t:{bucket}/z", given=LARGE)
        check(run("cat", f"t:{bucket}/z") == LARGE, "from a pipe and back")
        listed = run("lsf", "-R", f"t:{bucket}").decode().split("\n")
        check({"x/deep/", "x/empty", "y", "z"} <= set(listed), listed)
        run("purge", f"t:{bucket}")


def main():
    status = 0
    for scheme, url in URLS.items():
        clients = [boto, aws, minio_py, obstore_py, rclone]
        # A name of the virtual host is not in the server's certificate.
        clients += [boto_virtual_host] if scheme == "http" else []
        for number, client in enumerate(clients):
            name = f"{client.__name__} {scheme}"
            try:
                client(url, f"clients-{scheme}-{number}")
                print(f"{name}: ok", flush=True)
            except Exception:
                print(f"{name}: {traceback.format_exc()}", flush=True)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
