"""Doubles for the restores that the emulator does not have.

It restores tables by itself. Here are RDS's point-in-time recovery, and AWS Backup's
recovery points and restore jobs, as strict about their arguments as AWS documents
them: a restore makes what was there, under a name that nobody has, and nothing else.
"""

import itertools
import json
import time

from ministack.services import backup, dynamodb, rds

numbers = itertools.count(1)
restore_jobs = {}


def refuse(message):
    return 400, {"Content-Type": "application/json", "x-amzn-errortype": "InvalidParameterValueException"}, json.dumps({"Message": message}).encode()


# --- RDS -------------------------------------------------------------------


def copy_of(source, target):
    """A new instance with what `source` has, or what is wrong."""
    snapshot = f"restore-{next(numbers)}"
    rds._snapshots[snapshot] = dict(rds._instances[source])
    try:
        return rds._restore_from_snapshot({"DBInstanceIdentifier": [target], "DBSnapshotIdentifier": [snapshot]})
    finally:
        del rds._snapshots[snapshot]


def restore_instance(parameters):
    source, target = (rds._p(parameters, f"{kind}DBInstanceIdentifier") for kind in ("Source", "Target"))
    latest, moment = rds._p(parameters, "UseLatestRestorableTime") == "true", rds._p(parameters, "RestoreTime")
    if source not in rds._instances:
        return rds._error("DBInstanceNotFound", f"DBInstance {source} not found.", 404)
    if latest == bool(moment):
        return rds._error("InvalidParameterCombination", "Specify either RestoreTime or UseLatestRestorableTime.", 400)
    # Without them the copy would be in the default VPC, where no task gets to.
    if not rds._p(parameters, "DBSubnetGroupName") or not any(key.startswith("VpcSecurityGroupIds.") for key in parameters):
        return rds._error("InvalidParameterValue", "No subnet group or no security groups.", 400)
    answer = copy_of(source, target)
    if target not in rds._instances or answer[0] != 200:
        return answer
    return rds._single_instance_response("RestoreDBInstanceToPointInTimeResponse", "RestoreDBInstanceToPointInTimeResult", rds._instances[target])


# --- AWS Backup ------------------------------------------------------------


def points(vault):
    return [job for job in backup._jobs.values() if job["BackupVaultName"] == vault and job["State"] == "COMPLETED"]


def list_points(vault, query):
    wanted = query.get("resourceArn")
    found = [job for job in points(vault) if wanted in (None, job["ResourceArn"])]
    return backup._ok({"RecoveryPoints": [
        {"RecoveryPointArn": job["RecoveryPointArn"], "ResourceArn": job["ResourceArn"], "Status": "COMPLETED", "CreationDate": job["CreationDate"]}
        for job in found
    ]})


def restore_metadata(vault, arn):
    if arn not in [job["RecoveryPointArn"] for job in points(vault)]:
        return backup._not_found(f"Recovery point '{arn}' not found.")
    return backup._ok({"RecoveryPointArn": arn, "RestoreMetadata": {"DBInstanceIdentifier": "of-the-backup", "DBInstanceClass": "db.t4g.micro", "MultiAZ": "true"}})


def start_restore(body):
    job = next((job for job in backup._jobs.values() if job["RecoveryPointArn"] == body.get("RecoveryPointArn")), None)
    metadata = body.get("Metadata", {})
    if job is None or not body.get("IamRoleArn", "").startswith("arn:aws:iam::"):
        return refuse("no such recovery point, or no role")
    if any(not isinstance(value, str) for value in metadata.values()):
        return refuse("metadata is text")
    kind, name = job["ResourceArn"].split(":", 2)[2].split(":")[0], job["ResourceArn"].split(":")[-1].split("/")[-1]
    done = {"Status": "COMPLETED"}
    if kind == "dynamodb":
        answer = dynamodb._restore_table_to_point_in_time({"SourceTableName": name, "TargetTableName": metadata.get("targetTableName")})
    elif metadata.get("DBSubnetGroupName") and json.loads(metadata.get("VpcSecurityGroupIds", "[]")):
        answer = copy_of(name, metadata.get("DBInstanceIdentifier"))
    else:
        answer = 400, {}, b"no subnet group or no security groups"
    if answer[0] != 200:
        done = {"Status": "FAILED", "StatusMessage": answer[2].decode() if isinstance(answer[2], bytes) else str(answer[2])}
    number = f"restore-{next(numbers)}"
    restore_jobs[number] = {"RestoreJobId": number, "RecoveryPointArn": job["RecoveryPointArn"], "CreationDate": int(time.time()), **done}
    return backup._ok({"RestoreJobId": number})


def describe_restore(number):
    return backup._ok(restore_jobs[number]) if number in restore_jobs else backup._not_found(f"Restore job '{number}' not found.")


def install():
    rds._ACTION_MAP["RestoreDBInstanceToPointInTime"] = restore_instance
    backup._list_recovery_points_by_vault = list_points
    backup._get_recovery_point_restore_metadata = restore_metadata
    backup._describe_restore_job = describe_restore
    others = backup.handle_request

    async def handle(method, path, headers, body, query):
        if (method, path.rstrip("/")) == ("PUT", "/restore-jobs"):
            return start_restore(json.loads(body))
        return await others(method, path, headers, body, query)

    backup.handle_request = handle
