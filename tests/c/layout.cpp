// The C interface as C++ sees it: same sizes, offsets and values, and usable callbacks.
#include <mos_ext.h>
#include <mtcp_util.h>

#define ALIGN(type) alignof(type)
#define CHECK(condition) static_assert(condition, #condition)

#include "layout.inc"

static int calls;

static void on_event(mctx_t, int, int, event_t, filter_arg_t *) { calls++; }
static bool always(mctx_t, int, int, event_t, filter_arg_t *) { return true; }

int main()
{
	callback_t cb = on_event;
	filter_t filter = always;
	filter_arg_t arg = {nullptr, 0};
	monitor_filter ft;
	ft.stream_syn_filter = nullptr;

	if (filter(nullptr, 0, MOS_SIDE_CLI, MOS_ON_PKT_IN, &arg))
		cb(nullptr, 0, MOS_SIDE_CLI, MOS_ON_PKT_IN, &arg);
	return calls == 1 && ft.raw_pkt_filter == nullptr ? 0 : 1;
}
