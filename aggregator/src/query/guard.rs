//! A stream that lasts for as long as its reader may read it.

use std::future::Future;
use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use tonic::Status;

/// The stream, until `refused` says why it ends.
pub(super) fn until_refused<T>(
    inner: impl Stream<Item = Result<T, Status>> + Send + 'static,
    refused: impl Future<Output = Status> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send
where
    T: Send + 'static,
{
    type Refused = Option<Pin<Box<dyn Future<Output = Status> + Send>>>;
    let refused: Refused = Some(Box::pin(refused));
    stream::unfold((Box::pin(inner), refused), |(mut inner, refused)| async move {
        let mut refused = refused?;
        tokio::select! {
            biased;
            status = &mut refused => Some((Err(status), (inner, None))),
            item = inner.next() => item.map(|item| (item, (inner, Some(refused)))),
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_until_it_is_refused_and_says_why() {
        let (items, inner) = mpsc::channel(4);
        let (refuse, refused) = oneshot::channel();
        let all = until_refused(ReceiverStream::new(inner), async { refused.await.unwrap() });
        let mut all = Box::pin(all);
        for n in 0..2 {
            items.send(Ok(n)).await.unwrap();
            assert_eq!(all.next().await.unwrap().unwrap(), n);
        }
        refuse.send(Status::permission_denied("no more")).unwrap();
        items.send(Ok(2)).await.unwrap();
        assert_eq!(all.next().await.unwrap().unwrap_err().message(), "no more");
        assert!(all.next().await.is_none(), "nothing comes after that");
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_over() {
        let one = stream::iter([Ok(1)]);
        let all: Vec<Result<u32, Status>> = until_refused(one, std::future::pending()).collect().await;
        assert!(matches!(all[..], [Ok(1)]));
    }
}
