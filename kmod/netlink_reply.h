/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What the netlink families of both modules do alike with a request and its one reply. */
#ifndef ADAPATH_KMOD_NETLINK_REPLY_H
#define ADAPATH_KMOD_NETLINK_REPLY_H

#include <net/genetlink.h>

#include "compat.h"

/* The request has the attribute of that number and name; or -EINVAL, with the name in the acknowledgement. */
static inline int adp_need(struct genl_info *info, int attribute, const char *name)
{
	if (info->attrs[attribute])
		return 0;
	ADP_EXTACK(info->extack, "a required attribute is missing", ": %s", name);
	/* For a kernel whose texts have no names in them (compat.h). */
	NL_SET_ERR_ATTR_MISS(info->extack, NULL, attribute);
	return -EINVAL;
}

/* A reply with room for `bytes`, to the command that was asked; adp_reply_end() takes it. ERR_PTR(-ENOMEM), ERR_PTR(-EMSGSIZE). */
static inline struct sk_buff *adp_reply_begin(struct genl_info *info, const struct genl_family *family, size_t bytes, void **header)
{
	struct sk_buff *msg = genlmsg_new(bytes, GFP_KERNEL);

	if (!msg)
		return ERR_PTR(-ENOMEM);
	*header = genlmsg_put_reply(msg, info, family, 0, info->genlhdr->cmd);
	if (!*header) {
		nlmsg_free(msg);
		return ERR_PTR(-EMSGSIZE);
	}
	return msg;
}

/* Sends the reply; or where something failed meanwhile (`err`), frees it and returns that. */
static inline int adp_reply_end(struct genl_info *info, struct sk_buff *msg, void *header, int err)
{
	if (err) {
		nlmsg_free(msg);
		return err;
	}
	genlmsg_end(msg, header);
	return genlmsg_reply(msg, info);
}

#endif
