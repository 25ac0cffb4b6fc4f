//! One new connection to one server: TCP, TLS, login and database.

use std::{io, path::Path, sync::Once};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{
        TcpSettings,
        socket2::{SockRef, TcpKeepalive},
    },
};
use tokio::net::TcpStream;

use super::{
    KEEPALIVE,
    address::Address,
    config::{Login, TlsFiles},
    errors::{Failure, Fault, sound, text},
    pipe::{Pipe, command},
    server::{Connected, field},
};

/// How the servers of a deployment are asked. Not printed: it has the password.
#[derive(Clone)]
pub(super) struct Access {
    settings: RedisConnectionInfo,
    tls: Option<TlsFiles>,
}

impl Access {
    /// TLS is spoken when there are files for it, which may be none of all.
    pub(super) fn new(login: &Login, database: i64, tls: Option<TlsFiles>) -> Self {
        let mut settings = RedisConnectionInfo::default()
            .set_db(database)
            .set_skip_set_lib_name();
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        Self { settings, tls }
    }

    /// Whether the files for TLS are there and can be used.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let nowhere = Address {
            host: "localhost".to_owned(),
            port: 0,
        };
        self.client(&nowhere).map(|_| ())
    }

    /// Connects and logs in. Not bounded in time: whoever asks is.
    pub(super) async fn connect(&self, address: &Address) -> Result<Connected, Failure> {
        let client = self.client(address)?;
        // The bounds are ours: a bound of the client's would begin anew with each step.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|err| self.why_lost(err))?;
        Ok(Connected::new(connection, address, self.tls.is_some()))
    }

    /// A second connection to where `connected` leads, for reads; none over TLS, where reads go over the first. Not
    /// bounded in time either.
    pub(super) async fn pipe(
        &self,
        address: &Address,
        run_id: &str,
    ) -> Result<Option<Pipe>, Failure> {
        if self.tls.is_some() {
            return Ok(None);
        }
        let lost = |err: io::Error| Failure::from(RedisError::from(err));
        let Address { host, port } = address;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(lost)?;
        prepare(&stream).map_err(lost)?;
        let pipe = Pipe::new(stream);
        let settings = &self.settings;
        let login: Vec<&str> = [settings.username(), settings.password()]
            .into_iter()
            .flatten()
            .collect();
        let database = settings.db().to_string();
        let ask = async |name: &str, arguments: &[&str]| {
            let arguments = arguments.iter().map(|text| text.as_bytes());
            let answer = pipe.ask(|out| command(out, name, arguments)).await;
            let answer = redis::parse_redis_value(&answer.map_err(lost)?)?;
            sound(answer)
        };
        if settings.password().is_some() {
            ask("AUTH", &login).await?;
        }
        if settings.db() != 0 {
            ask("SELECT", &[&database]).await?;
        }
        // Between the two connections another server may have come to the address.
        let server = text(ask("INFO", &["server"]).await?)?;
        match field(&server, "run_id") == Some(run_id) {
            true => Ok(Some(pipe)),
            false => Err(lost(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn why_lost(&self, err: RedisError) -> Failure {
        match &self.tls {
            Some(_) => Failure::from(err).over_tls(),
            None => err.into(),
        }
    }

    /// A client that connects as this one does.
    pub(super) fn client(&self, address: &Address) -> Result<Client, Failure> {
        let Address { host, port } = address.clone();
        let addr = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE));
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(super::LOST_TIMEOUT);
        let info = addr
            .into_connection_info()?
            .set_tcp_settings(tcp)
            .set_redis_settings(self.settings.clone());
        match &self.tls {
            None => Ok(Client::open(info)?),
            Some(files) => {
                name_tls_provider();
                let certificates = certificates(files)?;
                Client::build_with_tls(info, certificates).map_err(|err| {
                    Fault::TlsFile(format!("the PEM files of `tls` cannot be used: {err}")).into()
                })
            }
        }
    }
}

/// As the connections that the client makes.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(super::LOST_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// The process has two libraries for TLS linked in, so one must be named; whoever named one before is right.
fn name_tls_provider() {
    static NAMED: Once = Once::new();
    NAMED.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
    });
}

fn certificates(files: &TlsFiles) -> Result<TlsCertificates, Failure> {
    let client_tls = match &files.identity {
        None => None,
        Some((cert, key)) => Some(ClientTlsConfig {
            client_cert: read_certificates(cert)?,
            client_key: read(key)?,
        }),
    };
    let root_cert = files.ca.as_deref().map(read_certificates).transpose()?;
    Ok(TlsCertificates {
        client_tls,
        root_cert,
    })
}

/// A file without any certificate would be taken for an empty list of them, which trusts nobody.
fn read_certificates(path: &Path) -> Result<Vec<u8>, Failure> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let pem = read(path)?;
    if pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(pem);
    }
    let path = path.display();
    Err(Fault::TlsFile(format!(
        "the file {path} of `tls` has no certificate in PEM"
    ))
    .into())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|err| {
        Fault::TlsFile(format!(
            "the file {} of `tls` cannot be read: {err}",
            path.display()
        ))
        .into()
    })
}
