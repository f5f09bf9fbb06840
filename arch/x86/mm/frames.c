/* Which frames there are. The frame table has a word for each number below nr_frames, and says of each whether it is RAM that we use. */
#include <asm/frame_ref.h>
#include <asm/pt.h>
#include <public/xen.h>
#include <pvisor/frame.h>
#include <pvisor/hwdom.h>

u64 nr_frames;
struct rangeset *mmio_ro_ranges;

bool mfn_valid(mfn_t m)
{
    return !mfn_eq(m, INVALID_MFN) && frame_ref_owner(read_once(frame_refs[m.v])) != DOMID_IO;
}
