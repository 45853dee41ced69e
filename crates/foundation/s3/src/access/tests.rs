use hyper::Request;

use super::*;

fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn authorization(scope: &str, signed: &str) -> String {
    let signature = "0".repeat(64);
    format!("AWS4-HMAC-SHA256 Credential=AK/{scope}, SignedHeaders={signed}, Signature={signature}")
}

#[test]
fn what_changes_a_request_must_be_signed() {
    const SCOPE: &str = "20261129/us-east-1/s3/aws4_request";
    let cases = [
        (SCOPE, "host;x-amz-date", true),
        (SCOPE, "host;x-amz-date;content-type", true),
        (SCOPE, "host", false),
        (SCOPE, "x-amz-date", false),
        (
            "20261129/us-east-1/sts/aws4_request",
            "host;x-amz-date",
            false,
        ),
    ];
    for (scope, signed, is_allowed) in cases {
        let header = authorization(scope, signed);
        let request = head(
            "/b/k",
            &[
                ("host", "h"),
                ("x-amz-date", "d"),
                ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
                ("authorization", &header),
            ],
        );
        assert_eq!(check(&request).is_ok(), is_allowed, "{scope} {signed}");
    }
}

#[test]
fn presigned_urls_end() {
    let credential = "X-Amz-Credential=AK%2F20261129%2Fus-east-1%2Fs3%2Faws4_request";
    let cases = [
        (
            "X-Amz-Expires=604800&X-Amz-SignedHeaders=host",
            &[("host", "h")][..],
            "Ok",
        ),
        (
            "X-Amz-Expires=604801&X-Amz-SignedHeaders=host",
            &[("host", "h")],
            "AuthorizationQueryParametersError",
        ),
        (
            "X-Amz-Expires=0&X-Amz-SignedHeaders=host",
            &[("host", "h")],
            "AuthorizationQueryParametersError",
        ),
        (
            "X-Amz-Expires=x&X-Amz-SignedHeaders=host",
            &[("host", "h")],
            "AuthorizationQueryParametersError",
        ),
        (
            "X-Amz-SignedHeaders=host",
            &[("host", "h")],
            "AuthorizationQueryParametersError",
        ),
        (
            "X-Amz-Expires=-5&X-Amz-SignedHeaders=host",
            &[("host", "h")],
            "AccessDenied",
        ),
        (
            "X-Amz-Expires=5&X-Amz-SignedHeaders=",
            &[("host", "h")],
            "AccessDenied",
        ),
        (
            "X-Amz-Expires=5&X-Amz-SignedHeaders=host",
            &[("host", "h"), ("x-amz-tagging", "a=b")],
            "AccessDenied",
        ),
        (
            "X-Amz-Expires=5&X-Amz-SignedHeaders=host%3Bx-amz-tagging",
            &[("host", "h"), ("x-amz-tagging", "a=b")],
            "Ok",
        ),
    ];
    for (query, headers, wanted) in cases {
        let request = head(&format!("/b/k?{credential}&{query}"), headers);
        let told = match check(&request) {
            Ok(()) => "Ok".to_owned(),
            Err(fault) => s3s::S3Error::from(fault).code().as_str().to_owned(),
        };
        assert_eq!(told, wanted, "{query}");
    }
}

#[test]
fn version_two_is_of_now() {
    let date = |seconds| {
        let mut text = Vec::new();
        let time = Timestamp::from(rt::wall() + Duration::from_secs(seconds));
        time.format(TimestampFormat::HttpDate, &mut text)
            .expect("a date");
        String::from_utf8(text).expect("text")
    };
    let cases = [
        (date(0), "Ok"),
        (date(600), "Ok"),
        (date(1200), "RequestTimeTooSkewed"),
        ("Tue, 07 Jul 1950 21:53:04 GMT".to_owned(), "AccessDenied"),
        (
            "Wed, 07 Jul 2010 21:53:04 GMT".to_owned(),
            "RequestTimeTooSkewed",
        ),
        (date(0).replace("GMT", "+0000"), "Ok"),
        ("yesterday".to_owned(), "AccessDenied"),
        (String::new(), "AccessDenied"),
    ];
    for (date, wanted) in cases {
        let request = head(
            "/b",
            &[
                ("host", "h"),
                ("date", &date),
                ("authorization", "AWS AK:x"),
            ],
        );
        let told = match check(&request) {
            Ok(()) => "Ok".to_owned(),
            Err(fault) => s3s::S3Error::from(fault).code().as_str().to_owned(),
        };
        assert_eq!(told, wanted, "{date}");
    }
}

#[test]
fn only_names_of_the_site_have_buckets() {
    let domains = Domains(vec!["s3.example.com".to_owned(), "S3.test".to_owned()]);
    let cases = [
        ("s3.example.com", None),
        ("b.s3.example.com", Some("b")),
        ("b.S3.Example.com:9000", Some("b")),
        ("a.b.s3.test", Some("a.b")),
        ("bs3.example.com", None),
        (".s3.example.com", Some("")),
        ("elsewhere:8000", None),
        ("example.com", None),
        ("ü.s3.example.com", Some("ü")),
        ("", None),
    ];
    for (host, bucket) in cases {
        let found = domains.parse_host_header(host).expect("a host");
        assert_eq!(found.bucket(), bucket, "{host}");
    }
}

#[test]
fn what_is_not_done_is_refused() {
    let cases = [
        ("x-amz-acl", "private", None),
        ("x-amz-acl", "public-read", Some("access control lists")),
        ("x-amz-grant-read", "id=a", Some("access control lists")),
        ("x-amz-server-side-encryption", "AES256", Some("encryption")),
        (
            "x-amz-server-side-encryption-customer-key",
            "a",
            Some("encryption"),
        ),
        ("x-amz-object-lock-mode", "COMPLIANCE", Some("object lock")),
        ("x-amz-storage-class", "STANDARD", None),
        ("x-amz-storage-class", "GLACIER", Some("storage classes")),
        (
            "x-amz-if-match-size",
            "1",
            Some("conditions on size or time"),
        ),
        ("x-amz-meta-acl", "public-read", None),
    ];
    for (name, value, wanted) in cases {
        let request = head("/b/k", &[(name, value)]);
        assert_eq!(not_implemented(&request.headers), wanted, "{name}: {value}");
    }
}
