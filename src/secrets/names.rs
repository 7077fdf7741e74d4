//! The table of names that are hidden without being asked for; `docs/secrets.md` is made from it.
//!
//! Names are compared without regard to case, to trailing dots and spaces, and to characters Unicode ignores, because
//! some file systems open `.env` under all of them.

use serde::Serialize;

/// A row of the table.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Row {
    /// Short stable name, used in reports.
    pub id: &'static str,
    /// Group in the documentation.
    pub group: Group,
    /// `name`, `*.extension`, `prefix*`, `parent/name`, `name/` for a directory, or a glob ending in an extension.
    pub pattern: &'static str,
    /// What it is and why it is hidden.
    pub what: &'static str,
    /// What makes a match stay visible all the same.
    pub unless: Unless,
}

/// Groups of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Environment files.
    Environment,
    /// Private keys and key stores.
    Keys,
    /// Cloud accounts.
    Cloud,
    /// Package registries and tools with a login.
    Registries,
    /// Infrastructure state.
    Infrastructure,
    /// Databases, servers and frameworks.
    Services,
    /// Records that repeat secrets.
    Records,
}

impl Group {
    /// The heading in the documentation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Environment => "Environment files",
            Self::Keys => "Private keys and key stores",
            Self::Cloud => "Cloud accounts",
            Self::Registries => "Registries and tools with a login",
            Self::Infrastructure => "Infrastructure",
            Self::Services => "Databases, servers and frameworks",
            Self::Records => "Records that repeat secrets",
        }
    }
}

/// What makes a file with a matching name stay visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unless {
    /// Nothing.
    Never,
    /// The name says that it is an example (`.env.example`, `.env.sample`, …).
    Example,
    /// It holds PEM blocks and all of them are public: certificates, public keys, parameters.
    PublicPem,
    /// It is at most 64 KiB and no line holds a credential; a value like `${TOKEN}` is none.
    NoCredential,
    /// It is a directory made by `python -m venv`.
    Venv,
}

impl Unless {
    /// The words for it in the documentation.
    pub fn title(self) -> &'static str {
        match self {
            Self::Never => "",
            Self::Example => "the name says it is an example",
            Self::PublicPem => "it holds only certificates, public keys or parameters",
            Self::NoCredential => "no line holds a credential (`${NAME}` is none)",
            Self::Venv => "it is a Python virtual environment",
        }
    }
}

/// Last or first parts of a name that mark an environment file as an example without values.
pub const EXAMPLE_WORDS: &[&str] = &["example", "sample", "template", "dist", "defaults", "schema", "tpl"];

/// Endings that editors and people give to copies; they are taken off, repeatedly, before a name is looked up.
///
/// Also taken off: `~`, a number (`.1`), and the wrappings `.#name`, `#name#` and `.name.swp`.
pub const COPY_ENDINGS: &[&str] = &[
    "bak", "backup", "old", "orig", "save", "swp", "swo", "swn", "swx", "tmp", "copy", "kate-swp", "un~", "rej",
    "disabled",
];

const fn row(group: Group, id: &'static str, pattern: &'static str, unless: Unless, what: &'static str) -> Row {
    Row { id, group, pattern, what, unless }
}

/// The table.
pub const ROWS: &[Row] = &[
    row(
        Group::Environment,
        "dotenv",
        ".env*",
        Unless::Example,
        "values an application or direnv reads into its environment",
    ),
    row(Group::Environment, "dotenv-suffix", "*.env", Unless::Example, "the same, named for a stage: `production.env`"),
    row(Group::Environment, "dotenv-dir", ".envs/", Unless::Never, "a directory of environment files"),
    row(Group::Environment, "dotenv-dir-named-env", ".env/", Unless::Venv, "a directory of environment files"),
    row(Group::Environment, "flaskenv", ".flaskenv", Unless::Never, "environment file of Flask"),
    row(Group::Environment, "dev-vars", ".dev.vars", Unless::Never, "environment file of Cloudflare Workers"),
    row(
        Group::Environment,
        "secret-local",
        ".secret.local",
        Unless::Never,
        "secret parameters of the Firebase emulator",
    ),
    row(Group::Environment, "mise-local", "mise.local.toml", Unless::Never, "a developer's own variables for mise"),
    row(
        Group::Environment,
        "mise-local-dot",
        ".mise.local.toml",
        Unless::Never,
        "a developer's own variables for mise",
    ),
    row(Group::Keys, "pem", "*.pem", Unless::PublicPem, "PEM: a private key, unless every block in it is public"),
    row(Group::Keys, "key", "*.key", Unless::PublicPem, "a private key of a server or a certificate authority"),
    row(Group::Keys, "id-rsa", "id_rsa", Unless::Never, "SSH private key"),
    row(Group::Keys, "id-dsa", "id_dsa", Unless::Never, "SSH private key"),
    row(Group::Keys, "id-ecdsa", "id_ecdsa", Unless::Never, "SSH private key"),
    row(Group::Keys, "id-ecdsa-sk", "id_ecdsa_sk", Unless::Never, "SSH private key on a token"),
    row(Group::Keys, "id-ed25519", "id_ed25519", Unless::Never, "SSH private key"),
    row(Group::Keys, "id-ed25519-sk", "id_ed25519_sk", Unless::Never, "SSH private key on a token"),
    row(Group::Keys, "host-key-rsa", "ssh_host_rsa_key", Unless::Never, "private key of an SSH server"),
    row(Group::Keys, "host-key-ecdsa", "ssh_host_ecdsa_key", Unless::Never, "private key of an SSH server"),
    row(Group::Keys, "host-key-ed25519", "ssh_host_ed25519_key", Unless::Never, "private key of an SSH server"),
    row(Group::Keys, "ssh-dir", ".ssh/", Unless::Never, "keys and known hosts of OpenSSH"),
    row(Group::Keys, "gnupg-dir", ".gnupg/", Unless::Never, "key ring of GnuPG"),
    row(Group::Keys, "p12", "*.p12", Unless::Never, "PKCS#12: private key with its certificate"),
    row(Group::Keys, "pfx", "*.pfx", Unless::Never, "PKCS#12: private key with its certificate"),
    row(Group::Keys, "p8", "*.p8", Unless::PublicPem, "PKCS#8 private key, as app stores hand them out"),
    row(Group::Keys, "pk8", "*.pk8", Unless::PublicPem, "PKCS#8 private key of Android signing"),
    row(Group::Keys, "jks", "*.jks", Unless::Never, "Java key store"),
    row(Group::Keys, "jceks", "*.jceks", Unless::Never, "Java key store"),
    row(Group::Keys, "bks", "*.bks", Unless::Never, "Bouncy Castle key store"),
    row(Group::Keys, "keystore", "*.keystore", Unless::Never, "key store of Android or Java"),
    row(Group::Keys, "keystore-properties", "keystore.properties", Unless::Never, "passwords of a signing key store"),
    row(Group::Keys, "ppk", "*.ppk", Unless::Never, "private key of PuTTY"),
    row(
        Group::Keys,
        "asc",
        "*.asc",
        Unless::PublicPem,
        "armoured OpenPGP: a private key, unless every block is public",
    ),
    row(Group::Keys, "mobileprovision", "*.mobileprovision", Unless::Never, "signing profile of Apple"),
    row(Group::Keys, "kdbx", "*.kdbx", Unless::Never, "password store of KeePass"),
    row(Group::Keys, "kdb", "*.kdb", Unless::Never, "password store of KeePass"),
    row(Group::Keys, "agilekeychain", "*.agilekeychain", Unless::Never, "password store of 1Password"),
    row(Group::Keys, "opvault", "*.opvault", Unless::Never, "password store of 1Password"),
    row(Group::Keys, "psafe3", "*.psafe3", Unless::Never, "password store of Password Safe"),
    row(Group::Keys, "keychain", "*.keychain", Unless::Never, "key chain of macOS"),
    row(Group::Keys, "keychain-db", "*.keychain-db", Unless::Never, "key chain of macOS"),
    row(Group::Keys, "password-store", ".password-store/", Unless::Never, "password store of pass"),
    row(Group::Keys, "age-keys", "keys.txt", Unless::NoCredential, "private keys of age and SOPS"),
    row(Group::Keys, "age", "*.agekey", Unless::Never, "private key of age"),
    row(Group::Keys, "firefox-logins", "logins.json", Unless::NoCredential, "passwords stored by Firefox"),
    row(Group::Keys, "firefox-keys", "key4.db", Unless::Never, "the key of Firefox's passwords"),
    row(Group::Keys, "chrome-logins", "login data", Unless::Never, "passwords stored by Chromium browsers"),
    row(Group::Keys, "firefox-cookies", "cookies.sqlite", Unless::Never, "sessions of Firefox"),
    row(Group::Cloud, "aws-dir", ".aws/", Unless::Never, "credentials and sessions of the AWS tools"),
    row(Group::Cloud, "azure-dir", ".azure/", Unless::Never, "tokens of the Azure tools"),
    row(Group::Cloud, "gcloud-dir", ".config/gcloud/", Unless::Never, "credentials of the Google Cloud tools"),
    row(
        Group::Cloud,
        "gcloud-adc",
        "application_default_credentials.json",
        Unless::Never,
        "default credentials of Google Cloud",
    ),
    row(
        Group::Cloud,
        "gcp-service-account",
        "*service*account*.json",
        Unless::NoCredential,
        "key of a Google service account",
    ),
    row(Group::Cloud, "firebase-admin", "*firebase-adminsdk*.json", Unless::Never, "key of a Firebase service account"),
    row(Group::Cloud, "oauth-client", "client_secret*.json", Unless::Never, "secret of an OAuth client"),
    row(Group::Cloud, "gcp-credentials", "gcp-credentials.json", Unless::Never, "key of a Google service account"),
    row(Group::Cloud, "credentials-json", "credentials.json", Unless::NoCredential, "credentials, by their name"),
    row(Group::Cloud, "boto", ".boto", Unless::Never, "credentials of boto and gsutil"),
    row(Group::Cloud, "s3cfg", ".s3cfg", Unless::Never, "credentials of s3cmd"),
    row(Group::Cloud, "rclone", "rclone.conf", Unless::Never, "credentials of rclone"),
    row(Group::Cloud, "oci-dir", ".oci/", Unless::Never, "keys of the Oracle cloud tools"),
    row(Group::Cloud, "doctl-dir", ".config/doctl/", Unless::Never, "token of DigitalOcean"),
    row(Group::Cloud, "railway-dir", ".railway/", Unless::Never, "token of Railway"),
    row(Group::Cloud, "fly-dir", ".fly/", Unless::Never, "token of Fly"),
    row(Group::Cloud, "kube-dir", ".kube/", Unless::Never, "clusters and their tokens"),
    row(Group::Cloud, "kubeconfig", "kubeconfig", Unless::Never, "cluster with its token"),
    row(Group::Cloud, "kubeconfig-yaml", "*kubeconfig*.yaml", Unless::Never, "cluster with its token"),
    row(Group::Cloud, "kubeconfig-yml", "*kubeconfig*.yml", Unless::Never, "cluster with its token"),
    row(Group::Cloud, "kubeconfig-suffix", "*.kubeconfig", Unless::Never, "cluster with its token"),
    row(Group::Registries, "netrc", ".netrc", Unless::Never, "logins of curl, git and others"),
    row(Group::Registries, "netrc-underscore", "_netrc", Unless::Never, "the same on Windows"),
    row(Group::Registries, "authinfo", ".authinfo", Unless::Never, "logins of Emacs"),
    row(Group::Registries, "authinfo-gpg", ".authinfo.gpg", Unless::Never, "logins of Emacs"),
    row(Group::Registries, "git-credentials", ".git-credentials", Unless::Never, "logins git stores"),
    row(Group::Registries, "gh-hosts", "gh/hosts.yml", Unless::Never, "token of the GitHub command"),
    row(Group::Registries, "hub", ".config/hub", Unless::Never, "token of the hub command"),
    row(
        Group::Registries,
        "npmrc",
        ".npmrc",
        Unless::NoCredential,
        "tokens of npm; often only settings, then it stays visible",
    ),
    row(Group::Registries, "yarnrc", ".yarnrc", Unless::NoCredential, "tokens of Yarn"),
    row(Group::Registries, "yarnrc-yml", ".yarnrc.yml", Unless::NoCredential, "tokens of Yarn"),
    row(Group::Registries, "bunfig", "bunfig.toml", Unless::NoCredential, "tokens of Bun"),
    row(Group::Registries, "pypirc", ".pypirc", Unless::Never, "logins for uploads to Python indexes"),
    row(Group::Registries, "pip", "pip.conf", Unless::NoCredential, "an index address with a password"),
    row(Group::Registries, "poetry-auth", "auth.toml", Unless::NoCredential, "logins of Poetry"),
    row(Group::Registries, "conda", ".condarc", Unless::NoCredential, "channel addresses with tokens"),
    row(Group::Registries, "cargo-credentials", ".cargo/credentials", Unless::Never, "tokens of Cargo"),
    row(Group::Registries, "cargo-credentials-toml", ".cargo/credentials.toml", Unless::Never, "tokens of Cargo"),
    row(Group::Registries, "gem-credentials", ".gem/credentials", Unless::Never, "tokens of RubyGems"),
    row(Group::Registries, "bundle-config", ".bundle/config", Unless::NoCredential, "logins of Bundler"),
    row(Group::Registries, "composer-auth", "auth.json", Unless::NoCredential, "tokens of Composer, and of agents"),
    row(Group::Registries, "nuget", "nuget.config", Unless::NoCredential, "passwords of NuGet sources"),
    row(Group::Registries, "maven", ".m2/settings.xml", Unless::NoCredential, "passwords of Maven servers"),
    row(Group::Registries, "maven-security", "settings-security.xml", Unless::Never, "master password of Maven"),
    row(Group::Registries, "gradle-user", ".gradle/gradle.properties", Unless::NoCredential, "passwords of Gradle"),
    row(Group::Registries, "docker", ".docker/config.json", Unless::NoCredential, "logins of container registries"),
    row(Group::Registries, "dockercfg", ".dockercfg", Unless::Never, "logins of container registries"),
    row(Group::Registries, "dockerconfigjson", "*.dockerconfigjson", Unless::Never, "logins of container registries"),
    row(Group::Registries, "hex", ".hex/hex.config", Unless::Never, "key of Hex"),
    row(Group::Registries, "terraform-rc", ".terraformrc", Unless::NoCredential, "token of Terraform Cloud"),
    row(Group::Registries, "terraform-credentials", "credentials.tfrc.json", Unless::Never, "token of Terraform Cloud"),
    row(Group::Registries, "claude-credentials", ".claude/.credentials.json", Unless::Never, "login of an agent"),
    row(Group::Registries, "huggingface", ".huggingface/", Unless::Never, "token of a model hub"),
    row(Group::Registries, "slack", ".slack/", Unless::Never, "token of the Slack command"),
    row(Group::Registries, "stripe", ".config/stripe/", Unless::Never, "keys of the Stripe command"),
    row(Group::Registries, "sentryclirc", ".sentryclirc", Unless::NoCredential, "token of Sentry"),
    row(
        Group::Infrastructure,
        "tfstate",
        "*.tfstate",
        Unless::Never,
        "state of Terraform: holds every secret it ever made",
    ),
    row(Group::Infrastructure, "tfvars", "terraform.tfvars", Unless::Never, "values given to Terraform"),
    row(Group::Infrastructure, "tfvars-json", "terraform.tfvars.json", Unless::Never, "values given to Terraform"),
    row(Group::Infrastructure, "auto-tfvars", "*.auto.tfvars", Unless::Never, "values given to Terraform"),
    row(Group::Infrastructure, "auto-tfvars-json", "*.auto.tfvars.json", Unless::Never, "values given to Terraform"),
    row(Group::Infrastructure, "secret-tfvars", "secret*.tfvars", Unless::Never, "values given to Terraform"),
    row(Group::Infrastructure, "vault-token", ".vault-token", Unless::Never, "token of Vault"),
    row(Group::Infrastructure, "vault-pass", ".vault_pass*", Unless::Never, "password of Ansible Vault"),
    row(Group::Infrastructure, "vault-password", ".vault-password*", Unless::Never, "password of Ansible Vault"),
    row(Group::Infrastructure, "vault-pass-plain", "vault_pass.txt", Unless::Never, "password of Ansible Vault"),
    row(Group::Infrastructure, "pulumi-credentials", ".pulumi/credentials.json", Unless::Never, "token of Pulumi"),
    row(Group::Infrastructure, "ovpn", "*.ovpn", Unless::Never, "VPN profile with its key"),
    row(Group::Services, "pgpass", ".pgpass", Unless::Never, "passwords of PostgreSQL"),
    row(Group::Services, "pg-service", ".pg_service.conf", Unless::NoCredential, "connections of PostgreSQL"),
    row(Group::Services, "my-cnf", ".my.cnf", Unless::Never, "passwords of MySQL"),
    row(Group::Services, "mylogin-cnf", ".mylogin.cnf", Unless::Never, "passwords of MySQL"),
    row(Group::Services, "htpasswd", ".htpasswd", Unless::Never, "password hashes of a web server"),
    row(Group::Services, "htpasswd-plain", "htpasswd", Unless::Never, "password hashes of a web server"),
    row(Group::Services, "secrets-yml", "secrets.yml", Unless::Never, "secrets, by their name"),
    row(Group::Services, "secrets-yaml", "secrets.yaml", Unless::Never, "secrets, by their name"),
    row(Group::Services, "secrets-json", "secrets.json", Unless::Never, "secrets, by their name"),
    row(Group::Services, "secrets-toml", "secrets.toml", Unless::Never, "secrets, by their name"),
    row(Group::Services, "master-key", "master.key", Unless::Never, "key of Rails' encrypted credentials"),
    row(Group::Services, "secret-key-base", "secret_token.rb", Unless::Never, "session key of Rails"),
    row(Group::Services, "wp-config", "wp-config.php", Unless::Never, "database password and salts of WordPress"),
    row(
        Group::Services,
        "local-settings",
        "local.settings.json",
        Unless::Never,
        "settings of Azure Functions with their keys",
    ),
    row(Group::Services, "google-services", "googleservice-info.plist", Unless::Never, "keys of a mobile application"),
    row(Group::Services, "sftp-json", "sftp.json", Unless::Never, "password of an editor's SFTP extension"),
    row(Group::Services, "ftpconfig", ".ftpconfig", Unless::Never, "password of an editor's FTP extension"),
    row(
        Group::Services,
        "idea-http",
        "http-client.private.env.json",
        Unless::Never,
        "secrets of JetBrains' HTTP client",
    ),
    row(
        Group::Services,
        "idea-datasources",
        ".idea/datasources.local.xml",
        Unless::Never,
        "database logins of JetBrains' editors",
    ),
    row(Group::Records, "har", "*.har", Unless::Never, "recorded browser session with cookies and tokens"),
    row(Group::Records, "idea-requests", ".idea/httprequests/", Unless::Never, "recorded requests with their headers"),
    row(Group::Records, "bash-history", ".bash_history", Unless::Never, "commands with the secrets typed in them"),
    row(Group::Records, "zsh-history", ".zsh_history", Unless::Never, "commands with the secrets typed in them"),
    row(Group::Records, "sh-history", ".sh_history", Unless::Never, "commands with the secrets typed in them"),
    row(Group::Records, "python-history", ".python_history", Unless::Never, "commands with the secrets typed in them"),
    row(Group::Records, "node-history", ".node_repl_history", Unless::Never, "commands with the secrets typed in them"),
    row(Group::Records, "psql-history", ".psql_history", Unless::Never, "statements with the passwords typed in them"),
    row(
        Group::Records,
        "mysql-history",
        ".mysql_history",
        Unless::Never,
        "statements with the passwords typed in them",
    ),
    row(
        Group::Records,
        "sqlite-history",
        ".sqlite_history",
        Unless::Never,
        "statements with the passwords typed in them",
    ),
    row(
        Group::Records,
        "rediscli-history",
        ".rediscli_history",
        Unless::Never,
        "statements with the passwords typed in them",
    ),
];
