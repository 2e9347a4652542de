/** Below so many bytes the collector is cheaper. */
const worthwhile = 4096

/**
 * Gives the memory of bytes that nobody will look at again back at once: V8 lets tens of megabytes of buffers lie about
 * before it collects them. Only bytes that are all of their buffer go; what is a view of something larger is left alone.
 */
export const releaseBytes = ({ buffer, byteLength }: Uint8Array): void => {
  if (byteLength >= worthwhile && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0)
}
