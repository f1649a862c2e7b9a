# Names that vulture finds unused, and that are used. `make lint` reads them here.
# What nothing but these lines uses is to be deleted.
# ruff: noqa: B018, F821

# Python, and libraries, call or read these.
_.__getattr__
_.__dir__
_.list_commands, _.format_commands  # click
_.get_sudo_command, _.get_encoding  # testinfra
_.CANONICAL_NAME, _.__class__, _._alias_name_cache, _._service_model  # botocore
_.no_wrap, _.overflow  # rich
_.banner_timeout, _.auth_timeout, _.key_types  # paramiko
_.gname, _.uname  # tarfile
_.external_attr  # zipfile
_.daemon_threads, _.request_queue_size, _.disable_nagle_algorithm, _.rbufsize, _.handle_error  # socketserver
_.server_version, _.sys_version, _.protocol_version, _.log_message, _.log_request  # http.server
_.buffer_text, _.StartDoctypeDeclHandler, _.StartElementHandler, _.CharacterDataHandler, _.EndElementHandler  # expat
_.reducer_override  # pickle
_.redirect_request  # urllib
_.ignore_aliases  # yaml
_.handle_starttag, _.handle_data  # html.parser
_.schema_  # the key schema of a document
_.do_POST  # http.server
_.has_location, _.is_package, _.get_source, _.get_code  # importlib
_.latest_amis_loaded, _.latest_ecs_amis_loaded, _.last_modified, _.desired_capacity  # moto
_.from_wsgi_server, _.content_encoding, _.raw_path, _.get_value, _.gen_amzn_requestid_long  # moto
_.teardown  # hypothesis
_.setup  # sphinx
_kill_all  # atexit
VOLUMES, DLM  # members of an enumeration that is unpacked

# Subclasses that register themselves: operations, target modes, kinds of resources, services of the sandbox.
Ansible, SystemAccounts, Deb, TimeZone, Alternative, Unit, DropIn, TmpFiles, DefaultTarget, AuthorizedKey
Share, Grant, AutoScalingGroup
AutoScaling, Dlm, Ebs, Ec2Service, Events, Iam, Inspector, RecycleBin, S3, ServiceQuotas, Sns, Sts
Again

# Facts of a record that go to JSON, or to the sandbox's state, as a whole.
_.volume_gib, _.key_pair_id, _.old_volume_id, _.new_volume_id, _.changed_blocks
