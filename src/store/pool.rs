//! Connections: pooled, with TLS where the URL asks for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{Hook, HookError, Metrics, Object, Timeouts};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;

type Manager = AsyncDieselConnectionManager<AsyncPgConnection>;

/// How long a caller waits for a connection: the server is asked for a new one, or a used one comes back.
const WAIT: Duration = Duration::from_secs(10);

/// A connection on loan.
pub type Connection = Object<Manager>;

/// How a pool is used at this moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Connections on loan.
    pub in_use: usize,
    /// Connections that rest.
    pub idle: usize,
    /// The most connections that there may be.
    pub max: usize,
    /// Who waits for one.
    pub waiters: usize,
}

/// A bounded pool of connections.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool::managed::Pool<Manager>,
    /// Connections from before are of no use any more.
    renewed: Arc<Mutex<Instant>>,
}

impl Pool {
    /// A pool that connects when a connection is first needed.
    ///
    /// # Errors
    /// [`Error::Failed`] when the pool itself cannot be built.
    pub fn new(url: &SecretString, max_connections: usize) -> Result<Self, Error> {
        let mut config = ManagerConfig::default();
        // Looks only whether the connection is closed: a ping a loan would cost a round trip a batch.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(establish);
        let manager = Manager::new_with_config(url.expose_secret(), config);
        let renewed = Arc::new(Mutex::new(Instant::now()));
        let since = Arc::clone(&renewed);
        let is_of_use = move |_: &mut AsyncPgConnection, metrics: &Metrics| {
            let since = *since.lock().unwrap_or_else(PoisonError::into_inner);
            if metrics.created < since { Err(HookError::message("of no use any more")) } else { Ok(()) }
        };
        let inner = deadpool::managed::Pool::builder(manager)
            .pre_recycle(Hook::sync_fn(is_of_use))
            .max_size(max_connections.max(2))
            .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| Error::Failed(e.to_string()))?;
        Ok(Self { inner, renewed })
    }

    /// Gives out no connection any more that was made before. A session keeps what it was born with: one from the time when
    /// the server was read-only stays so for ever.
    pub fn renew(&self) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn get(&self) -> Result<Connection, Error> {
        Ok(self.inner.get().await?)
    }

    /// How it is used.
    pub fn usage(&self) -> Usage {
        let status = self.inner.status();
        let idle = status.available.min(status.size);
        Usage { in_use: status.size - idle, idle, max: status.max_size, waiters: status.waiting }
    }
}

/// A connection that is taken when it is first needed, and kept from then on: some queries need none.
pub struct OnDemand<'a> {
    pool: &'a Pool,
    taken: Option<Connection>,
}

impl<'a> OnDemand<'a> {
    /// None is taken yet.
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool, taken: None }
    }

    /// The connection.
    ///
    /// # Errors
    /// As [`Pool::get`].
    pub async fn get(&mut self) -> Result<&mut AsyncPgConnection, Error> {
        let connection = match self.taken.take() {
            Some(connection) => connection,
            None => self.pool.get().await?,
        };
        Ok(self.taken.insert(connection))
    }
}

/// Sessions that hang in a transaction hold locks that everybody waits for: the server ends them.
/// A row that somebody else keeps locked must not hold up a whole batch for long.
/// A plan is kept with its statement: one that was made while a table was small would go on reading the whole of it when it
/// has become large. There is an index for every question, which one follows from its text, and no question is so large that
/// compiling its plan pays. So each is planned once, without its values.
const SESSION: &str = "set application_name = 'regrant'; set idle_in_transaction_session_timeout = '60s'; \
                       set statement_timeout = '60s'; set lock_timeout = '3s'; set timezone = 'UTC'; \
                       set enable_seqscan = off; set plan_cache_mode = force_generic_plan; set jit = off";

/// A server that vanished without a word (a pulled cable, a frozen host) is noticed after this long, not after hours.
const SILENCE: Duration = Duration::from_secs(15);

fn establish(url: &str) -> BoxFuture<'_, ConnectionResult<AsyncPgConnection>> {
    async move {
        let bad = |e: &dyn std::fmt::Display| ConnectionError::BadConnection(e.to_string());
        let mut config: tokio_postgres::Config = url.parse().map_err(|e| bad(&e))?;
        config
            .connect_timeout(WAIT)
            .keepalives_idle(SILENCE / 3)
            .keepalives_interval(SILENCE / 3)
            .keepalives_retries(2);
        config.tcp_user_timeout(SILENCE);
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // A certificate of the system that rustls does not understand is no reason not to connect with the others.
            let _ = roots.add(certificate);
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| bad(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.map_err(|e| bad(&describe(&e)))?;
        let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        connection.batch_execute(SESSION).await.map_err(|e| bad(&e))?;
        Ok(connection)
    }
    .boxed()
}

/// tokio-postgres says only "db error": the reason is in its source.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        |db| format!("{} ({})", db.message(), db.code().code()),
    )
}

/// One connection outside of any pool.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn connect(url: &SecretString) -> Result<AsyncPgConnection, Error> {
    tokio::time::timeout(WAIT, establish(url.expose_secret()))
        .await
        .map_err(|_| Error::Unavailable(format!("no answer within {} s", WAIT.as_secs())))?
        .map_err(|e| Error::Unavailable(e.to_string()))
}
