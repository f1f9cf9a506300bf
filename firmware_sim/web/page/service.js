// Keeps the page for use without a network: all files of one build, or none of it. BUILD and FILES
// are written before these lines.

self.addEventListener('install', (event) => {
  const keep = async () => {
    await (await caches.open(BUILD)).addAll(FILES);
    await self.skipWaiting();
  };
  event.waitUntil(keep());
});

self.addEventListener('activate', (event) => {
  const tidy = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name !== BUILD).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

self.addEventListener('fetch', (event) => {
  const answer = async () => (await caches.match(event.request)) ?? fetch(event.request);
  event.respondWith(answer());
});
