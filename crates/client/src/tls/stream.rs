use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::endpoint::{Io, Refusal};

/// An encrypted connection that notes if the server refuses this client's certificate.
pub(crate) struct Encrypted {
    stream: TlsStream<Box<dyn Io>>,
    refusal: Refusal,
}

impl Encrypted {
    pub(super) fn new(stream: TlsStream<Box<dyn Io>>, refusal: Refusal) -> Encrypted {
        Encrypted { stream, refusal }
    }

    fn note(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        if let Some(cause @ rustls::Error::AlertReceived(alert)) = cause
            && is_refusal(*alert)
        {
            self.refusal.set(Some(cause.to_string()));
        }
    }

    /// A refusal may wait to be read where writing failed first.
    fn look_for_refusal(&mut self, context: &mut Context<'_>) {
        let mut scratch = [0; 64];
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut scratch))
        {
            self.note(&error);
        }
    }

    fn noting<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &written {
            self.look_for_refusal(context);
        }
        written
    }
}

/// Whether an alert is about a certificate.
fn is_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.note(error);
        }
        read
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noting(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.noting(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.noting(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
