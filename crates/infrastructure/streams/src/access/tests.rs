use std::os::unix::fs::MetadataExt as _;

use tonic::Code;

use super::*;

struct Files {
    dir: PathBuf,
}

impl Files {
    /// With one user, who may read.
    fn new() -> Self {
        let dir = format!("streams-access-{:016x}", rt::random_u64());
        let files = Self {
            dir: std::env::temp_dir().join(dir),
        };
        fs::create_dir_all(&files.dir).expect("a directory");
        files.write(&[("eve", "secret", "prn::/scope:lab/*,READ")]);
        files
    }

    fn config(&self) -> config::Auth {
        config::Auth {
            passwords: self.dir.join("passwd"),
            token_key: None,
            token_ttl: Duration::from_secs(60),
        }
    }

    fn write(&self, users: &[(&str, &str, &str)]) {
        let lines = users
            .iter()
            .map(|(user, password, rules)| line(user, password, rules).expect("a line"));
        let text = lines.collect::<Vec<_>>().join("\n");
        fs::write(self.dir.join("passwd"), text).expect("it is written");
    }

    fn open(&self) -> Access {
        Access::open(&self.config(), &self.dir).expect("it is opened")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).expect("it is there");
    }
}

fn says(text: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let value = text.parse().expect("ASCII");
    metadata.insert("authorization", value);
    metadata
}

fn basic(text: &str) -> MetadataMap {
    says(&format!("Basic {}", STANDARD.encode(text)))
}

const VIDEO: &str = "prn::/scope:lab/stream:video";

/// What becomes of a request.
async fn asks(access: &Access, sender: &MetadataMap, permission: Permission) -> Code {
    let asked = async {
        access.admit(sender).await?;
        access.check(sender, VIDEO, permission)
    };
    asked
        .await
        .map_or_else(|status| status.code(), |()| Code::Ok)
}

#[tokio::test]
async fn who_has_the_password_may_what_the_rules_say() {
    let files = Files::new();
    let access = files.open();
    for (sender, read, update) in [
        (basic("eve:secret"), Code::Ok, Code::PermissionDenied),
        (basic("eve:secret"), Code::Ok, Code::PermissionDenied),
        (
            basic("eve:Secret"),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
        (basic("eve:"), Code::Unauthenticated, Code::Unauthenticated),
        (basic("eve"), Code::Unauthenticated, Code::Unauthenticated),
        (
            basic("bob:secret"),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
        (
            basic(":secret"),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
        (says("Basic"), Code::Unauthenticated, Code::Unauthenticated),
        (
            says("Basic !"),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
        (
            says("Bearer x"),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
        (
            MetadataMap::new(),
            Code::Unauthenticated,
            Code::Unauthenticated,
        ),
    ] {
        assert_eq!(
            asks(&access, &sender, Permission::Read).await,
            read,
            "{sender:?}"
        );
        assert_eq!(asks(&access, &sender, Permission::ReadUpdate).await, update);
    }
    // Who does not say who they are may still ask what everybody may.
    access.admit(&MetadataMap::new()).await.expect("admitted");
    access.admit(&says("Bearer x")).await.expect("admitted");
    let wrong = access
        .admit(&basic("eve:x"))
        .await
        .expect_err("it is wrong");
    assert_eq!(wrong.code(), Code::Unauthenticated);
    // What was not admitted is not known.
    let fresh = files.open();
    let unknown = fresh.check(&basic("eve:secret"), VIDEO, Permission::Read);
    assert_eq!(
        unknown.expect_err("it was not admitted").code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_password_is_recognised_once() {
    let files = Files::new();
    let access = files.open();
    let sender = basic("eve:secret");
    assert_eq!(asks(&access, &sender, Permission::Read).await, Code::Ok);
    // However many others are to be recognised.
    let n_places = u32::try_from(WAITING_MAX).expect("few");
    let waiting = Arc::clone(&access.accounts()["eve"].waiting);
    let _places = waiting.acquire_many_owned(n_places).await;
    assert_eq!(asks(&access, &sender, Permission::Read).await, Code::Ok);
    let wrong = asks(&access, &basic("eve:x"), Permission::Read).await;
    assert_eq!(wrong, Code::ResourceExhausted);
    // Others have places of their own.
    let stranger = asks(&access, &basic("bob:x"), Permission::Read).await;
    assert_eq!(stranger, Code::Unauthenticated);
}

#[tokio::test]
async fn users_come_and_go_with_the_file() {
    let files = Files::new();
    let access = files.open();
    let (eve, bob) = (basic("eve:secret"), basic("bob:other"));
    assert_eq!(asks(&access, &eve, Permission::Read).await, Code::Ok);
    files.write(&[("bob", "other", "prn::*,READ_UPDATE")]);
    assert_eq!(
        asks(&access, &bob, Permission::Read).await,
        Code::Unauthenticated
    );
    access.refresh().expect("it is read");
    assert_eq!(asks(&access, &bob, Permission::ReadUpdate).await, Code::Ok);
    assert_eq!(
        asks(&access, &eve, Permission::Read).await,
        Code::Unauthenticated
    );
    let path = files.config().passwords;
    fs::write(&path, "bob:x").expect("it is written");
    let error = access.refresh().expect_err("it is no file of users");
    assert!(error.to_string().contains("line 1"), "{error}");
    assert_eq!(asks(&access, &bob, Permission::ReadUpdate).await, Code::Ok);
    fs::remove_file(&path).expect("it was there");
    access.refresh().expect_err("it is gone");
    assert_eq!(asks(&access, &bob, Permission::ReadUpdate).await, Code::Ok);
}

#[test]
fn the_key_of_tokens_is_kept_for_its_owner_only() {
    let files = Files::new();
    let token = files
        .open()
        .token(&MetadataMap::new(), VIDEO, Permission::Read);
    let token = token.expect("it is issued");
    let grants = files.open().tokens().read(&token, rt::wall());
    let grants = grants.expect("the key is the same");
    assert!(grants.allow("lab/video/0.#epoch.0", Permission::Read));
    let path = files.dir.join(TOKEN_KEY);
    let mode = fs::metadata(&path).expect("it is kept").mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(&path).expect("it is kept");
    assert!(!format!("{:?}", files.open()).contains(&key));

    let given = config::Auth {
        token_key: Some(files.dir.join("given")),
        ..files.config()
    };
    Access::open(&given, &files.dir).expect_err("it is not there");
    fs::write(files.dir.join("given"), "\n").expect("it is written");
    Access::open(&given, &files.dir).expect_err("it is empty");
    fs::write(files.dir.join("given"), "secret\n").expect("it is written");
    let access = Access::open(&given, &files.dir).expect("it is there");
    access
        .tokens()
        .read(&token, rt::wall())
        .expect_err("it is another key");
    let short = config::Auth {
        token_ttl: Duration::from_millis(500),
        ..files.config()
    };
    Access::open(&short, &files.dir).expect_err("it would be over at once");
}
