/*
 * ring_buffer.c - a byte buffer between two connections.
 *
 * What is held stays in one piece: it moves to the front when the room behind it is needed.
 */
#include <stdlib.h>
#include <string.h>

#include "ring_buffer.h"

struct ring_buffer {
	u_char *bytes;
	int size;       /* capacity */
	int start;      /* of what is held */
	int held;
	int total;      /* ever put in */
};

ring_buffer *InitBuffer(int size)
{
	ring_buffer *buffer = size > 0 ? calloc(1, sizeof(*buffer)) : NULL;

	if (!buffer)
		return NULL;
	buffer->size = size;
	buffer->bytes = malloc((size_t)size);
	if (!buffer->bytes) {
		free(buffer);
		return NULL;
	}
	return buffer;
}

int GetTotSizeRBuffer(ring_buffer *r_buff)
{
	return r_buff->size;
}

int GetDataSizeRBuffer(ring_buffer *r_buff)
{
	return r_buff->held;
}

int GetCumSizeRBuffer(ring_buffer *r_buff)
{
	return r_buff->total;
}

int GetRemainBufferSize(ring_buffer *r_buff)
{
	return r_buff->size - r_buff->held;
}

int CheckAvailableSize(ring_buffer *r_buff, int size)
{
	return size >= 0 && size <= GetRemainBufferSize(r_buff);
}

u_char *GetDataPoint(ring_buffer *r_buff)
{
	return r_buff->bytes + r_buff->start;
}

u_char *GetInputPoint(ring_buffer *r_buff)
{
	if (r_buff->start > 0) {
		memmove(r_buff->bytes, GetDataPoint(r_buff), (size_t)r_buff->held);
		r_buff->start = 0;
	}
	return r_buff->bytes + r_buff->held;
}

int RemoveDataFromBuffer(ring_buffer *r_buff, int size)
{
	if (size < 0 || size > r_buff->held)
		return -1;
	r_buff->held -= size;
	r_buff->start = r_buff->held ? r_buff->start + size : 0;
	return 0;
}

int AddDataLen(ring_buffer *r_buffer, int size)
{
	if (!CheckAvailableSize(r_buffer, size))
		return -1;
	r_buffer->held += size;
	r_buffer->total += size;
	return 0;
}

int CopyData(ring_buffer *dest_buff, ring_buffer *src_buff, int len)
{
	if (len < 0 || len > src_buff->held || !CheckAvailableSize(dest_buff, len))
		return -1;
	memcpy(GetInputPoint(dest_buff), GetDataPoint(src_buff), (size_t)len);
	return AddDataLen(dest_buff, len);
}

int MoveData(ring_buffer *dest_buff, ring_buffer *src_buff, int len)
{
	if (CopyData(dest_buff, src_buff, len) < 0)
		return -1;
	return RemoveDataFromBuffer(src_buff, len);
}

int MoveToREPData(ring_buffer *dest_buff, ring_buffer *src_buff, int len)
{
	if (len > MAX_REP_LEN)
		len = MAX_REP_LEN;
	return MoveData(dest_buff, src_buff, len) < 0 ? -1 : len;
}

int MtcpWriteFromBuffer(mctx_t mtcp, int fid, ring_buffer *r_buff)
{
	ssize_t n;

	if (r_buff->held == 0)
		return 0;
	n = mtcp_write(mtcp, fid, (char *)GetDataPoint(r_buff), (size_t)r_buff->held);
	if (n > 0)
		RemoveDataFromBuffer(r_buff, (int)n);
	return (int)n;
}

int MtcpReadFromBuffer(mctx_t mtcp, int fid, ring_buffer *r_buff)
{
	int room = GetRemainBufferSize(r_buff);
	ssize_t n;

	if (room == 0)
		return 0;
	n = mtcp_read(mtcp, fid, (char *)GetInputPoint(r_buff), (size_t)room);
	if (n > 0)
		AddDataLen(r_buff, (int)n);
	return (int)n;
}
