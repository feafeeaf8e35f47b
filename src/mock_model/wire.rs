//! Connections that can be cut: by a script, or all of them when the server stops.
//!
//! Knows sockets and nothing of HTTP. Invariant: after a cut nothing more of a connection is read or written.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// What cuts one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Scissors(Arc<Mutex<Cut>>);

#[derive(Debug, Default)]
struct Cut {
    is_cut: bool,
    reader: Option<Waker>,
}

impl Scissors {
    pub(super) fn cut(&self) {
        let reader = {
            let mut cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            cut.is_cut = true;
            cut.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// An error once the connection is cut. A reader that waits is remembered, for the cut to wake it.
    fn check(&self, reader: Option<&Waker>) -> io::Result<()> {
        let mut cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cut.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(reader) = reader {
            cut.reader = Some(reader.clone());
        }
        Ok(())
    }
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    scissors: Scissors,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.scissors.check(Some(context.waker()))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.scissors.check(None)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Every connection that is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Wires(Arc<Mutex<Vec<Weak<Mutex<Cut>>>>>);

impl Wires {
    fn add(&self, scissors: &Scissors) {
        let mut wires = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wires.retain(|wire| wire.strong_count() > 0);
        wires.push(Arc::downgrade(&scissors.0));
    }

    pub(super) fn cut_all(&self) {
        let wires = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for wire in wires.iter().filter_map(Weak::upgrade) {
            Scissors(wire).cut();
        }
    }
}

/// Accepts connections that can be cut; a request finds its [`Scissors`] in its connection's info.
pub(super) struct Door {
    listener: TcpListener,
    wires: Wires,
}

impl Door {
    pub(super) fn new(listener: TcpListener, wires: Wires) -> Self {
        Self { listener, wires }
    }
}

impl Listener for Door {
    type Io = Wire;
    type Addr = Scissors;

    async fn accept(&mut self) -> (Wire, Scissors) {
        let (stream, _): (TcpStream, SocketAddr) = Listener::accept(&mut self.listener).await;
        // A body that comes byte by byte leaves byte by byte.
        let _ = stream.set_nodelay(true);
        let scissors = Scissors::default();
        self.wires.add(&scissors);
        let wire = Wire {
            stream,
            scissors: scissors.clone(),
        };
        (wire, scissors)
    }

    fn local_addr(&self) -> io::Result<Scissors> {
        Ok(Scissors::default())
    }
}

impl Connected<IncomingStream<'_, Door>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}
