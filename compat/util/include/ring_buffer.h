/*
 * ring_buffer.h - a byte buffer between two connections: written at its end, read at its
 * start. Sizes are in bytes; a size that does not fit gives -1.
 */
#ifndef MOS_UTIL_RING_BUFFER_H
#define MOS_UTIL_RING_BUFFER_H

#include <sys/types.h>

#include <mtcp_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most bytes that MoveToREPData() moves. */
#define MAX_REP_LEN (10 * 1024)

typedef struct ring_buffer ring_buffer;

/* Makes an empty buffer; NULL without memory. */
ring_buffer *InitBuffer(int size);

int GetTotSizeRBuffer(ring_buffer *r_buff);     /* what it can hold */
int GetDataSizeRBuffer(ring_buffer *r_buff);    /* what it holds */
int GetCumSizeRBuffer(ring_buffer *r_buff);     /* all that was ever put in */
int GetRemainBufferSize(ring_buffer *r_buff);   /* room */
int CheckAvailableSize(ring_buffer *r_buff, int size);  /* TRUE (1): `size` more fit */

u_char *GetDataPoint(ring_buffer *r_buff);      /* first byte held */
u_char *GetInputPoint(ring_buffer *r_buff);     /* where GetRemainBufferSize() bytes may go */

/* Takes bytes off the start. 0 or -1. */
int RemoveDataFromBuffer(ring_buffer *r_buff, int size);

/* Counts bytes in that were written to GetInputPoint(). 0 or -1. */
int AddDataLen(ring_buffer *r_buffer, int size);

/* Appends the first len bytes of src to dest; MoveData() also takes them off src. 0 or -1. */
int CopyData(ring_buffer *dest_buff, ring_buffer *src_buff, int len);
int MoveData(ring_buffer *dest_buff, ring_buffer *src_buff, int len);

/* MoveData() of at most MAX_REP_LEN bytes. Returns how many, or -1. */
int MoveToREPData(ring_buffer *dest_buff, ring_buffer *src_buff, int len);

/* Writes what is held to a connection, or fills the buffer from one. Returns the number of
   bytes moved, else what mtcp_write() or mtcp_read() gave. */
int MtcpWriteFromBuffer(mctx_t mtcp, int fid, ring_buffer *r_buff);
int MtcpReadFromBuffer(mctx_t mtcp, int fid, ring_buffer *r_buff);

#ifdef __cplusplus
}
#endif

#endif
