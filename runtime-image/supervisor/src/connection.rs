//! Connections as they come in, for all of this process's servers.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Out of file descriptors: some are free again when something here has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// The next connection, whatever becomes of those that break at once.
pub(crate) async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Fails only on a connection that is gone.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
